"""The name of the machine behind the sshd of tests/contracts."""

MACHINE = "cloudrun-store-test"
