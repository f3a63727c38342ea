"""The operator's container image, built where no registry is reached."""
