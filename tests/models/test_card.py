"""A model card's metadata is what the Hugging Face Hub takes."""

import numpy as np
import pandas as pd
import pytest
import yaml

from ablation.models.card import ScoredRows, render_card
from tests.models.test_kept_weights import about

ROWS = pd.DataFrame(
    {
        "row": range(20),
        "language": "en",
        "label": np.arange(20.0) % 5,
        "prediction": np.arange(20.0),
    }
)


@pytest.mark.parametrize(
    ("groups", "reference", "languages", "tags"),
    [
        (("en", "fr"), "MINT", ["en", "fr"], {"intimacy", "multilingual"}),
        (("en",), None, ["en"], set()),
        (("news", "bible"), None, None, set()),  # domains, which are no languages
    ],
)
def test_it_names_languages_and_the_task_where_they_are_known(
    groups: tuple[str, ...], reference: str | None, languages: list[str] | None, tags: set[str]
) -> None:
    origin = about().model_copy(update={"languages": groups, "reference": reference})
    card = render_card(origin, ScoredRows(ROWS, None))
    metadata = yaml.safe_load(card.split("---")[1])
    assert metadata.get("language") == languages
    assert set(metadata["tags"]) & {"intimacy", "multilingual"} == tags
    assert metadata["library_name"] == "sentence-transformers"
