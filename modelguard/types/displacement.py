"""How far the weights moved from their base, against how far the logged training could have moved them."""

from __future__ import annotations

from dataclasses import dataclass

LIMIT = 1.01  # a movement of one per cent above the bound, rounding allowed for, is no accident of arithmetic


@dataclass(frozen=True, slots=True, kw_only=True)
class OptimizerSettings:
    """What the papers beside a model say about its optimizer. `name` is "" where they name none; None is a value that nobody states.

    `source` names the paper. `stated` says whether every setting that the bound needs is written there, rather than a usual default.
    """

    name: str = ""
    betas: tuple[float, float] | None = None
    weight_decay: float | None = None
    momentum: float | None = None
    clip: float | None = None  # the gradient's largest L2 norm
    learning_rate: float | None = None  # the schedule's peak
    source: str = ""
    scaled: bool = False  # Adafactor: rates are in units of each tensor's own size
    obstacles: tuple[str, ...] = ()  # settings under which no bound holds, such as several learning rates
    rank: int = 0  # of the low-rank adapter that is trained in place of the weights; 0 where none is stated
    whole: tuple[str, ...] = ()  # parts that are trained whole beside an adapter
    frozen: tuple[str, ...] = ()  # parts that are not trained, as components of tensors' names

    @property
    def stated(self) -> bool:
        return bool(self.name) and (self.betas is not None or "adam" not in self.name)


@dataclass(frozen=True, slots=True, kw_only=True)
class ToldNorm:
    """The L2 norm of weights as a log records it near one end of the training, against that of the weights themselves."""

    name: str  # of the log's column
    step: int  # that the log records it at
    logged: float
    own: float
    tolerance: float  # rounding, and twice the largest change a step nearby for each step between the record and the weights
    exact: bool  # whether the record is of the very step of the weights, or of its neighbour
    within: bool = False  # whether some other record, or two that follow one another, have the weights' norm between them

    @property
    def agrees(self) -> bool:
        return abs(self.logged - self.own) <= self.tolerance


@dataclass(frozen=True, slots=True, kw_only=True)
class Displacement:
    """Movement of a checkpoint from its base in units of what the log allows: above 1 no gradients whatever explain it.

    `ratio` is the largest movement over its bound (of one entry, one tensor or the model, as `norm` says), `tensor` where it was
    seen. `rms` is the root mean square movement of the tensor that moved most over the sum of the learning rates.
    """

    checkpoint: str
    base: str
    tensor: str
    ratio: float
    norm: str  # entry, tensor or model
    rms: float
    tensors: int  # compared
    moved: int  # of them, not equal everywhere
    beyond: int  # matrices whose movement exceeds the bound
    matrices: int  # matrices that moved
    new: int  # tensors of the checkpoint without a partner in the base
    steps: int  # optimizer steps that the log accounts for
    rate_sum: float  # sum of their learning rates, from above
    reach: float  # the bound on one entry's movement before rounding and decay (L2 over the model for SGD)
    optimizer: str
    betas: tuple[float, float] | None
    declared: bool  # whether the papers name the optimizer
    stated: bool  # whether they state its settings too
    source: str
    narrow: bool  # 16-bit weights: half of the bound is room for rounding at every step
    assumptions: tuple[str, ...] = ()
    doubts: tuple[str, ...] = ()  # why nothing here would speak against the log
    caveats: tuple[str, ...] = ()  # why an excess over the bound alone would not, such as steps that need not be one update
    renewed: int = 0  # matrices that bear no likeness to the base's, as a new head, where most do
    unbounded: str = ""  # why no bound holds; the movement is then not judged, and `ratio` is 0
    reached: int = 0  # the step that the checkpoint's own folder states; 0 when it states none
    since: int = 0  # the step that the base's folder states, where it is an earlier checkpoint of the same run
    logged: int = 0  # the last step that the log accounts for, with one cadence more
    first_norm: ToldNorm | None = None  # against the base
    last_norm: ToldNorm | None = None  # against the checkpoint
    rank: int = 0  # of the adapter that the settings state
    ranked: int = 0  # matrices whose movement was held against it
    above_rank: tuple[str, ...] = ()  # of them, those whose movement has a higher one
    thawed: tuple[str, ...] = ()  # tensors that moved though the settings say that they are frozen

    @property
    def unseen(self) -> float:
        """The share of the sum of learning rates that a log must lose before this checkpoint would show it, if the log is whole."""
        return max(0.0, 1.0 - self.ratio)

    @property
    def placed(self) -> bool:
        """Whether one end of a logged norm fits the weights, which shows that it is theirs."""
        return any(norm is not None and norm.agrees for norm in (self.first_norm, self.last_norm))

    @property
    def telling(self) -> bool:
        """Whether anything here may speak against the log, so that it is worth asking what but training would explain it."""
        astray = self.placed and any(norm is not None and not norm.agrees for norm in (self.first_norm, self.last_norm))
        return self.ratio > LIMIT or astray or bool(self.thawed or self.above_rank)
