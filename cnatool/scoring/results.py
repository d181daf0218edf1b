"""The result of scoring: one typed record, whether printed, returned or written as JSON."""

from __future__ import annotations

from typing import Literal

import msgspec

from cnatool._util.documents import Document
from cnatool._util.html import shown_by
from cnatool._util.text import count_text, number_text
from cnatool.metrics.convention import Convention
from cnatool.metrics.estimate import ChanceArea, Cna, Estimate, MinibatchCna, ResampledEstimate
from cnatool.metrics.norms import Baseline
from cnatool.metrics.performance import OutputKind
from cnatool.records.weights import Flatness
from cnatool.scoring.alpha_input import LengthUnit

_UNITS = {"next": "next-token ", "labels": "token "}


class LayerResult(msgspec.Struct, frozen=True):
    """One layer that β was computed over.

    Attributes
    ----------
    number : int
        1 for the first layer that counts.
    name, operator : str
        Its tensor, and the operator that makes it.
    depth : int
        Its depth d, the abscissa of the slope.
    """

    number: int
    name: str
    operator: str
    depth: int


class ModelResult(msgspec.Struct, frozen=True):
    """The model that was run.

    Attributes
    ----------
    name : str
        Name of its file.
    sha256 : str
        SHA-256 of that file, in hexadecimal.
    """

    name: str
    sha256: str


class ScoreHeader(Document, frozen=True):
    """The fields that all results of scoring begin with.

    Attributes
    ----------
    schema : str
        Name and version of this format.
    store, test_store : str, str or None
        What was scored.
    model : ModelResult or None
        The model that was run; None where the store does not say.
    tags : dict
        The tags that the store was dumped with.
    convention : Convention
        The convention behind every number.
    alpha_input : str or None
        What α was computed over: the bytes or the tokens of a text, the amplitudes of sound, or
        windows of values; None for all values of an array of numbers.
    alpha_codec : str or None
        What compressed the inputs, with its version and setting; None for other forms of α.
    layers : tuple of LayerResult
        The layers that β was computed over.
    """

    schema: str
    store: str
    test_store: str | None
    model: ModelResult | None
    tags: dict[str, str]
    convention: Convention
    alpha_input: str | None
    alpha_codec: str | None
    layers: tuple[LayerResult, ...]


class OutputResult(msgspec.Struct, frozen=True):
    """The model output from which accuracy, loss and margin were computed.

    Attributes
    ----------
    number, name : int, str, or None
        Its place among the model's outputs, from 0, and its name; null where the store has none.
    others : tuple of str
        Outputs that could have been meant as well; empty where one was named.
    """

    number: int | None
    name: str | None
    others: tuple[str, ...]


class Distribution(msgspec.Struct, frozen=True):
    """The distribution of a per-sample number over a split.

    Attributes
    ----------
    mean, std, min, max : float or None
        None where not finite, or where there are no samples; the deviation is the population's.
    """

    mean: float | None
    std: float | None
    min: float | None
    max: float | None


class Coefficients(msgspec.Struct, frozen=True):
    """The correlation of α and β by every coefficient, whichever the convention names.

    Attributes
    ----------
    pearson, spearman, kendall : Estimate
        Pearson's r, Spearman's ρ, and Kendall's τ-b.
    smoothed : Estimate
        Pearson's r of the smoothed curves.
    minibatches : MinibatchCna
        Pearson's r over minibatches, in the order that the convention names.
    """

    pearson: Estimate
    spearman: Estimate
    kendall: Estimate
    smoothed: Estimate
    minibatches: MinibatchCna


class TokensResult(msgspec.Struct, frozen=True):
    """What accuracy and loss of a split are of, where each token of a sample has scores.

    Attributes
    ----------
    targets : {"next", "labels"}
        What a token is compared with: the one that follows it, or its label.
    count : int
        Tokens of all samples that have such a target.
    perplexity : float or None
        exp(loss), the loss being the mean over these tokens; None where undefined.
    """

    targets: Literal["next", "labels"]
    count: int
    perplexity: float | None


class AlphaGroup(msgspec.Struct, frozen=True):
    """The samples of one quantile of α; samples of equal α are never divided.

    Attributes
    ----------
    samples : int
        How many; none where too many samples have equal α.
    alpha_min, alpha_mean, alpha_max : float or None
        Their α; None where there are no samples.
    error : float or None
        Share of wrong predictions (paper Fig. 6), of samples or, as of the split, of tokens.
    loss : float or None
        Mean cross-entropy in nats, over the same.
    """

    samples: int
    alpha_min: float | None
    alpha_mean: float | None
    alpha_max: float | None
    error: float | None
    loss: float | None


class LengthResult(msgspec.Struct, frozen=True):
    """How scores depend on the length of samples, where they differ in it.

    All samples that have an α count. Correlations are by the convention's coefficient of CNA,
    Pearson's for ``smoothed``.

    Attributes
    ----------
    unit : {"bytes", "tokens", "amplitudes", "rows", "values"}
        What a length counts: symbols of a text, amplitudes of sound, rows along the axis in which
        samples differ, or values of images of different sizes.
    samples : Distribution
        The lengths of the samples.
    alpha, beta : Estimate
        Correlation of α and of β with length.
    cna : Estimate
        CNA with length held fixed.
    """

    unit: LengthUnit
    samples: Distribution
    alpha: Estimate
    beta: Estimate
    cna: Estimate


class SplitResult(msgspec.Struct, frozen=True):
    """The scores of one split.

    Attributes
    ----------
    samples : int
        Rows that were scored.
    available : int or None
        Samples of the source that the split was taken from; None where the store does not say.
    complete : bool
        Whether the dump of this split was finished.
    rows : int
        Rows that the split has, or will have once its dump is finished.
    skipped : int
        Samples that have no row since they could not be read.
    accuracy, loss : float or None
        Share of right predictions, and mean cross-entropy in nats, over the samples or, if
        ``tokens`` is set, over their tokens; None where undefined.
    performance_reason : str or None
        Why there is neither accuracy nor loss.
    loss_reason : str or None
        Why there is no loss, and no margin, beside an accuracy.
    outputs : {"logits", "probabilities"} or None
        What the model's output holds.
    alpha, beta : Distribution
        Input complexity and use of depth over the samples.
    beta_reason : str or None
        Why β has no mean or no deviation: it is 0 for every sample but for rounding, or not finite
        for some.
    cna : Cna
        Correlation of α and β (paper eq. 2–3), by the coefficient that the convention names.
    coefficients : Coefficients
        The same by every coefficient.
    alpha_groups : tuple of AlphaGroup
        The split by quantiles of α, lowest first.
    alpha_undefined : int
        Samples without α, which have no values or are shorter than a window of it; they are left
        out of ``alpha``, ``beta``, and all that is computed from both.
    length : LengthResult or None
        How scores depend on the length of samples; None if all are equally long.
    tokens : TokensResult
        What accuracy and loss are of, where each token has scores; absent where a sample has.
    """

    samples: int
    available: int | None
    complete: bool
    rows: int
    skipped: int
    accuracy: float | None
    loss: float | None
    performance_reason: str | None
    outputs: OutputKind | None
    alpha: Distribution
    beta: Distribution
    beta_reason: str | None
    cna: Cna
    coefficients: Coefficients
    alpha_groups: tuple[AlphaGroup, ...]
    loss_reason: str | None = None
    alpha_undefined: int = 0
    length: LengthResult | None = None
    # Absent, not null, so that other results are those of earlier versions.
    tokens: TokensResult | msgspec.UnsetType = msgspec.UNSET

    @property
    def unit(self) -> str:
        """What accuracy and loss refer to, as a prefix of either word; empty for samples."""
        return _UNITS[self.tokens.targets] if self.tokens else ""

    def __repr__(self) -> str:
        numbers = (
            f"{self.unit}accuracy {number_text(self.accuracy)}, CNA {number_text(self.cna.value)}"
        )
        return f"<scores of {count_text(self.samples, 'sample')}: {numbers}>"


class BaselinesResult(msgspec.Struct, frozen=True):
    """Measures from the norms of the weights, which others are compared with (paper Fig. 8-9).

    Products and sums go over all linear operators, whichever of them the convention counts as
    layers of β. γ is ``margin`` of the same result; the quotients by it have what is
    divided as their ``log_norm``.

    Attributes
    ----------
    layers : int
        Number of linear operators, d of the bounds.
    training_samples : int or None
        m of the bounds: samples of the training split's source, or where that is not known those
        that were scored; None without such a split.
    initial : str or None
        Name of the model that holds the initial weights; None where there is none.
    l2 : Baseline
        ∏ ‖W_l‖_F / γ.
    spectral : Baseline
        ∏ σ_1(W_l) / γ.
    l2_path : Baseline
        Root of the sum of the outputs, on ones, of the network with every parameter squared, / γ.
    bound_2018 : Baseline
        The bound of Neyshabur et al. 2018, with h_l the output units of a layer:
        d · (∏ σ_1(W_l) / γ) · sqrt(Σ_l h_l ‖W_l − W_l⁰‖_F² / σ_1(W_l)²) / √m.
    bound_2018_from_zero : Baseline
        The same with 0 for the initial weights W_l⁰.
    parameter_norm, l1 : Baseline
        Square root of the sum of squares of all weights, and sum of their absolute values; shared
        weights count once.
    distance : Baseline
        Square root of Σ ‖W_l − W_l⁰‖_F².
    parameters : Baseline
        Number of parameters.
    depth : Baseline
        Linear operators on the longest path.
    flatness : Flatness or None
        How the dump measured flatness; None where it did not.
    pac_bayes_flatness, pac_bayes_mag_flatness : Baseline
        1/σ² and 1/σ′²: σ is the largest Gaussian noise on each weight with which training accuracy
        falls by no more than ``flatness.target``, σ′ that relative to the weight (Jiang et al.
        2019).
    pac_bayes_init, pac_bayes_orig : Baseline
        ‖w − w⁰‖² / (4σ²) + ln(m/σ) + 10, and the same with 0 for the initial weights w⁰.
    pac_bayes_mag_init, pac_bayes_mag_orig : Baseline
        ¼ Σ_i ln((ε² + (σ′² + 1) ‖v‖²/ω) / (ε² + σ′² (w_i − w_i⁰)²)) + ln(m/σ′) + 10 with
        v = w − w⁰, and with v = w; ω is the number of weights.
    pac_bayes_mag_from_zero : Baseline
        The same with 0 for w⁰ throughout.
    """

    layers: int
    training_samples: int | None
    initial: str | None
    l2: Baseline
    spectral: Baseline
    l2_path: Baseline
    bound_2018: Baseline
    bound_2018_from_zero: Baseline
    parameter_norm: Baseline
    l1: Baseline
    distance: Baseline
    parameters: Baseline
    depth: Baseline
    flatness: Flatness | None
    pac_bayes_flatness: Baseline
    pac_bayes_init: Baseline
    pac_bayes_orig: Baseline
    pac_bayes_mag_flatness: Baseline
    pac_bayes_mag_init: Baseline
    pac_bayes_mag_orig: Baseline
    pac_bayes_mag_from_zero: Baseline

    def __repr__(self) -> str:
        return f"<measures from the weights of {count_text(self.layers, 'linear operator')}>"


class ScoreResult(ScoreHeader, frozen=True):
    """The result of `cnatool score`.

    Attributes
    ----------
    layers_missing : tuple of str
        Tensors that the convention's ``layers`` would count but the store does not contain.
    output : OutputResult
        The model output from which accuracy, loss and margin were computed.
    splits : dict of str to SplitResult
        The scores of each split.
    gap : Estimate
        Generalisation gap between train and test, in the form that the convention names.
    gap_accuracy, gap_loss : Estimate
        Both forms: accuracy(train) − accuracy(test), and |loss(train) − loss(test)|.
    cna_area : ResampledEstimate
        CNA-A, the area between the (α, β)-curves of train and test (paper eq. 5).
    cna_area_by_chance : ChanceArea
        CNA-A that splits that do not differ would have, which is also above 0.
    margin : Estimate
        γ of the training split.
    cna_margin : ResampledEstimate
        CNA-M = γ · CNA-A (paper eq. 7).
    baselines : BaselinesResult
        Measures based on the norms of the weights and γ.
    notes : tuple of str
        Remarks on the results.
    """

    schema: Literal["cnatool.score/1"]
    layers_missing: tuple[str, ...]
    output: OutputResult
    splits: dict[str, SplitResult]
    gap: Estimate
    gap_accuracy: Estimate
    gap_loss: Estimate
    cna_area: ResampledEstimate
    cna_area_by_chance: ChanceArea
    margin: Estimate
    cna_margin: ResampledEstimate
    baselines: BaselinesResult
    notes: tuple[str, ...]

    @property
    def unit(self) -> str:
        """What accuracy and loss refer to, as a prefix of either word; empty for samples."""
        return next((split.unit for split in self.splits.values() if split.unit), "")

    def __repr__(self) -> str:
        splits = (
            f"CNA {number_text(split.cna.value)} on {name}" for name, split in self.splits.items()
        )
        area, chance = self.cna_area.value, self.cna_area_by_chance.mean
        by_chance = "" if chance is None else f" ({number_text(chance)} by chance)"
        pair = f"CNA-A {number_text(area)}{by_chance}, gap {number_text(self.gap.value)}"
        return f"<cnatool score of {self.store!r}: {', '.join(splits)}; {pair}>"

    _repr_html_ = shown_by("cnatool.scoring.html", "score_html")
