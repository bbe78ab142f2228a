"""The portal: pages rendered here, for people with a browser. They call the slices' operations, never the store."""
