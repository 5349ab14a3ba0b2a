"""Pipes and terminals on an asyncio loop, and the streams that users read and write."""
