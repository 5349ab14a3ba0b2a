"""A program is started and known; without a loop, but for how loops hear of it."""
