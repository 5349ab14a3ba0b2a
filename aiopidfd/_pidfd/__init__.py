"""Handles to any process, by its pidfd; on any loop or without one."""
