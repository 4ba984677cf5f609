"""The pages over what was recorded: read-only, hostile content kept inert. Must not know the proxy or the observer."""
