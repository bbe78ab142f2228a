"""Where environments are built: by processes of this machine, or by pods."""
