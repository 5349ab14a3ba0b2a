"""Programs on an asyncio loop."""
