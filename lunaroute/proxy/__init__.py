"""The data path: the only asyncio between a client and a provider. Knows nothing of recording beyond the tap."""
