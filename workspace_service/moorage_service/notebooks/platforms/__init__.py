"""Where notebooks start. `local`: as processes of this machine. `kubernetes`: as pods of a namespace of the user's own."""
