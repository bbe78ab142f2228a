"""`moorage admin`: what an admin does at the machine itself, on the state folder, whether the service is up or down."""
