"""Redaction: personal data and secrets taken out of what will be kept, between the observer and its stores.

The wire is never changed, and no fact is told from a redacted text: counts, costs and sessions are settled before.

    rules      what is looked for and what becomes of it, out of the configuration
    key        the key of the installation, by which equal values get equal tokens
    forms      what stands for a value: token, mask, part, or nothing
    texts      one text, whatever it is written in
    bodies     one body, whatever its form: JSON, events, forms, parts
    redactor   records
    vault      what the tokens stood for, encrypted, where that is wanted

Pure but for the file of the key and that of the vault. Credentials are masked before (observe/mask.py).
"""

from __future__ import annotations

from lunaroute.observe.pii.redactor import Redactor, redactor_of
from lunaroute.observe.pii.rules import Rules, rules_of

__all__ = ["Redactor", "Rules", "redactor_of", "rules_of"]
