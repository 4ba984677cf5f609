"""What things cost. One function, `Prices.cost`, is behind the CLI, the API, the UI and the metrics."""

from __future__ import annotations

from lunaroute.observe.pricing.cost import Cost, CostLine
from lunaroute.observe.pricing.prices import Prices

__all__ = ["Cost", "CostLine", "Prices"]
