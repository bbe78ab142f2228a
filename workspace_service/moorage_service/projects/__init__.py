"""Projects: members, secrets, files, and builds of their environments."""
