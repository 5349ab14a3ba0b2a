"""Any process, by its pidfd; on any loop or none."""
