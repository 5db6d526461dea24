"""The few computations that every mixer is a table on top of; each has a reference and a fast form."""
