"""How a notebook server comes up: a project's files in a home, Jupyter's settings, and the first program of a pod."""
