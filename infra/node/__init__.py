"""What a machine of a cluster runs, from its boot to the end of its bill."""
