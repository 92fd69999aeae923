"""Create and change what operators configure: issuers, targets, profiles, policies, agents, keys, the
installation itself.
"""
