"""What is called the same on every host: libvirt's address, and paths below the root. Imports nothing."""

DEFAULT_URI = "xen:///system"
POLICY = "etc/cede/policy.yaml"
POLICY_FOLDER = "etc/cede/policy.d"
AGENT_SOCKET = "run/cede/cede.sock"
