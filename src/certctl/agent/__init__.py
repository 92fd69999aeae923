"""The agent: a small program on a host that makes keys, deploys certificates and looks at what is served.

It polls the control plane over HTTPS, keeps every private key on its host, and must never import server code.
"""
