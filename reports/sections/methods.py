"""State the methods behind the report's numbers."""

from collections.abc import Iterator

from reports.analysis.groups import describe
from reports.analysis.inference import RESAMPLES
from reports.analysis.inputs import ReportInputs
from reports.rendering.blocks import Block
from reports.sections.registry import section


@section("How it was computed", order=110)
def build(inputs: ReportInputs) -> Iterator[Block]:
    """Yield the methods, and how the group differs from the others."""
    yield (
        f"Row intervals are percentile bootstraps of {RESAMPLES} resamples, drawn within each"
        " language, the same for all models; p values of paired differences come from the same"
        " resamples moved to zero, and from Williams' test. Seed intervals are Student's. For"
        " both together the variances add, with Satterthwaite's degrees of freedom. Holm's"
        " correction runs over each table's tests. Every number is computed from stored"
        " predictions; `ablation report --verify` recomputes them."
    )
    group = inputs.group
    if len(inputs.groups) > 1 and not group.mixed:
        others = [other for other in inputs.groups if other is not group]
        difference = describe(group, others)
        yield f"The runs shown differ from the experiment's others in: {difference}."
