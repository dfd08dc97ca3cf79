"""Which deployment serves a request: pinned by header, else by weight (contract.md 1.7, 5.2)."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Mapping
from typing import Generic, TypeVar

from gateway.core.faults import Fault, Refusal

D = TypeVar("D")


class Traffic(Generic[D]):
    """The split of one endpoint.

    Weights are percentages. What they leave of 100 goes to the default deployment; without a
    default it is refused, as is everything when no deployment has a positive weight.
    """

    __slots__ = ("_bounds", "_by_name", "_only", "_order")

    def __init__(
        self, deployments: Mapping[str, D], weights: Mapping[str, int], default: str | None
    ) -> None:
        """
        :raises ValueError: a weight for an unknown deployment, outside 0 to 100, or a sum above it.
        """
        total = sum(weights.values())
        unknown = sorted((set(weights) | ({default} if default else set())) - set(deployments))
        if unknown:
            raise ValueError(f"no deployment {unknown[0]!r}; have {', '.join(deployments)}")
        if total > 100 or any(not 0 <= weight <= 100 for weight in weights.values()):
            raise ValueError(f"weights must lie between 0 and 100 and sum to at most 100: {total}")
        shares = dict(weights)
        if default is not None:
            shares[default] = shares.get(default, 0) + 100 - total
        self._by_name = {name.encode(): deployment for name, deployment in deployments.items()}
        self._bounds: list[int] = []
        self._order: list[D] = []
        bound = 0
        for name, share in shares.items():
            if share:
                bound += share
                self._bounds.append(bound)
                self._order.append(deployments[name])
        # Nearly every endpoint sends everything to one deployment: no number has to be drawn.
        self._only = self._order[0] if self._bounds == [100] else None

    def choose(self, pin: bytes | None, draw: Callable[[], float]) -> D:
        """The deployment for one request.

        :param pin: value of ``azureml-model-deployment``; it bypasses the split.
        :param draw: a random number in [0, 1).
        :raises Refusal: ``NO_DEPLOYMENT``, the documented 404.
        """
        if pin is not None:
            pinned = self._by_name.get(pin)
            if pinned is None:
                raise Refusal(Fault.NO_DEPLOYMENT)
            return pinned
        if self._only is not None:
            return self._only
        at = bisect_right(self._bounds, draw() * 100)
        if at == len(self._order):
            raise Refusal(Fault.NO_DEPLOYMENT)
        return self._order[at]
