"""Where clusters run. `local`: processes of this machine, each under a shim."""
