"""An organisation's own rules about certificates: six kinds, each with a typed configuration and one pure function.

The same rule judges a request before it is approved and the inventory afterwards. Error and Critical block, a Warning
is recorded. Pure: facts in, named violations out.
"""
