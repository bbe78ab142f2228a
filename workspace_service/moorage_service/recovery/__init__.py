"""What is done about a disaster: copies of the store, and knowing again what runs when the store does not."""
