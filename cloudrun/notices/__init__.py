"""Tell people how a run goes: by a chat's webhook, ntfy, mail, or the desktop. The standard library, Python 3.10.

The same code sends from the rented machine, where a user's computer may be off, and from the user's computer.
"""
