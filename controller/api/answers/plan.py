"""The answer about what the next run of a node would remove."""

from datetime import datetime
from typing import Self

from pydantic import Field

from contract.verdicts import HeldBack, Proof, Urgency, Verdict
from controller.api.answers.base import Answer
from controller.conditions.holds import Hold
from controller.views.plan import Action, Plan, Step


class PlanHoldAnswer(Answer):
    """Something that holds removals back."""

    reason: HeldBack
    where: str
    by: str | None
    since: datetime | None
    why: str | None
    until: str = Field(description="what ends it, with the command")

    @classmethod
    def of(cls, hold: Hold) -> Self:
        return cls.model_validate(hold)


class PlanStepAnswer(Answer):
    """What the next run would do with a device."""

    action: Action = Field(
        description="remove; hold: something is in the way; wait: proof is missing; leave: not Docker's"
    )
    netns: str
    ifindex: int
    device: str
    vni: int
    network_name: str | None
    verdict: Verdict
    urgency: Urgency | None
    proof: Proof | None = Field(description="what proves an orphan dead")
    reason: str
    missing: str | None = Field(description="what is waited for, or why it is left")
    holds: list[PlanHoldAnswer]

    @classmethod
    def of(cls, step: Step) -> Self:
        return cls.from_row(
            step.device,
            action=step.action,
            device=step.device.name,
            network_name=step.network_name,
            missing=step.missing,
            holds=[PlanHoldAnswer.of(hold) for hold in step.holds],
        )


class PlanAnswer(Answer):
    """A forecast: at the time of a removal the worker reads the kernel and judges again."""

    node_id: str
    node_name: str
    looked_at: datetime | None = Field(description="when the devices were looked at; null: never")
    stale: bool = Field(description="that is too long ago to say anything of the present")
    next_run_at: datetime | None
    running: bool = Field(description="a run is under way")
    removals_left: int = Field(description="removals before the breaker of the node trips")
    max_removals: int | None = Field(
        description="removals that its worker allows a run (MAX_REMOVALS_PER_RUN); null: not reported"
    )
    holds: list[PlanHoldAnswer] = Field(description="what holds back every removal on the node")
    steps: list[PlanStepAnswer]

    @classmethod
    def of(cls, found: Plan, *, stale: bool) -> Self:
        return cls(
            node_id=found.node.id,
            node_name=found.node.hostname,
            looked_at=found.looked_at,
            stale=stale,
            next_run_at=found.next_run_at,
            running=found.node.due.run_id is not None,
            removals_left=found.removals_left,
            max_removals=found.node.max_removals,
            holds=[PlanHoldAnswer.of(hold) for hold in found.holds],
            steps=[PlanStepAnswer.of(step) for step in found.steps],
        )
