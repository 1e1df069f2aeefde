"""Dev1 and Dev2 as the paper describes them, and nothing that leaks."""

import tempfile
import unicodedata
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ablation.config.schema import EqualTexts
from ablation.core.errors import UsageError
from ablation.data.corpus import Corpus, load_corpus, repeated_texts, text_key
from ablation.data.splits import by_kind, draw_kind, make_split, select_splits
from tests.conftest import Row, some_rows, write_corpus

SIX = ("zh", "en", "fr", "it", "pt", "es")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return load_corpus(str(write_corpus(tmp_path_factory.mktemp("c"), some_rows(50, SIX))))


def test_dev1_is_a_fifth_of_the_rows(corpus: Corpus) -> None:
    split = make_split(corpus, "dev1", 0)
    assert len(split.dev) == 60
    assert sorted([*split.train, *split.dev]) == list(range(300))
    assert split.unseen == ()


def test_dev2_holds_out_two_languages_and_a_fifth_of_the_others(corpus: Corpus) -> None:
    split = make_split(corpus, "dev2", 0)
    language = corpus.train["language"].to_numpy()
    assert len(split.unseen) == 2
    assert not np.isin(language[split.train], split.unseen).any()
    assert np.isin(language[split.dev], split.unseen).sum() == 100
    assert len(split.dev) == 100 + 40
    assert len(split.train) == 160


def test_named_languages_are_held_out(corpus: Corpus) -> None:
    split = make_split(corpus, "dev2:fr+it", 0)
    assert split.unseen == ("fr", "it")
    assert set(corpus.train["language"].iloc[split.train]) == {"zh", "en", "pt", "es"}


def test_a_pair_that_was_drawn_and_one_that_was_named_give_the_same_split(corpus: Corpus) -> None:
    drawn = make_split(corpus, "dev2", 3)
    named = make_split(corpus, f"dev2:{'+'.join(drawn.unseen)}", 3)
    assert np.array_equal(drawn.train, named.train)
    assert np.array_equal(drawn.dev, named.dev)


def test_all_pairs_of_six_languages_are_fifteen(corpus: Corpus) -> None:
    names = select_splits(["dev2:all"], corpus, 0)
    assert len(set(names)) == 15
    assert {make_split(corpus, name, 0).unseen for name in names} == {
        tuple(n.split(":")[1].split("+")) for n in names
    }


def test_a_draw_is_the_split_of_its_own_seed(corpus: Corpus) -> None:
    drawn, of_setting = make_split(corpus, "dev2@3", 0), make_split(corpus, "dev2", 3)
    assert np.array_equal(drawn.dev, of_setting.dev)
    assert drawn.unseen == of_setting.unseen
    assert drawn.name == "dev2@3"
    assert not np.array_equal(drawn.dev, make_split(corpus, "dev2", 0).dev)


@pytest.mark.parametrize(
    ("requested", "names"),
    [
        (["dev1@0-2"], ["dev1", "dev1@1", "dev1@2"]),
        ([" Dev1 @ 4+2 "], ["dev1@4", "dev1@2"]),
        (["dev2:it+fr@1"], ["dev2:fr+it@1"]),
        (["hold:3@0-1", "dev1"], ["hold:3", "hold:3@1", "dev1"]),
    ],
)
def test_split_seeds_name_draws_and_the_settings_own_seed_is_the_plain_name(
    requested: list[str], names: list[str], corpus: Corpus
) -> None:
    assert select_splits(requested, corpus, 0) == names


def test_every_pair_can_be_drawn_with_several_seeds(corpus: Corpus) -> None:
    names = select_splits(["dev2:all@0-2"], corpus, 0)
    assert len(set(names)) == 3 * 15
    assert list(by_kind(names)) == ["dev2"]


@pytest.mark.parametrize(
    "name",
    ["dev1@2-0", "dev1@-1", "dev1@0-1-2", "dev1@1000-9999", "dev1@x", "dev1@", "given@1", "@1"],
)
def test_draws_that_are_none_are_refused(name: str, corpus: Corpus) -> None:
    with pytest.raises(UsageError, match="split"):
        select_splits([name], corpus, 0)


def test_splits_of_a_kind_differ_in_the_draw_alone() -> None:
    names = ("dev1", "dev1@1", "dev2:fr+it", "dev2@2", "hold:3", "hold:2", "kfold:5:1", "kfold:5:2")
    assert by_kind(names) == {
        "dev1": ("dev1", "dev1@1"),
        "dev2": ("dev2:fr+it", "dev2@2"),
        "hold:3": ("hold:3",),
        "hold:2": ("hold:2",),
        "kfold:5:1": ("kfold:5:1",),
        "kfold:5:2": ("kfold:5:2",),
    }


@pytest.mark.parametrize(
    ("requested", "names"),
    [
        (["dev1", "dev2"], ["dev1", "dev2"]),
        ([" Dev1 "], ["dev1"]),
        (["dev1", "dev1"], ["dev1"]),
        (["dev2:it+fr"], ["dev2:fr+it"]),
        (["dev2:French+po"], ["dev2:fr+pt"]),
    ],
)
def test_names_are_brought_to_one_form(
    requested: list[str], names: list[str], corpus: Corpus
) -> None:
    assert select_splits(requested, corpus, 0) == names


@pytest.mark.parametrize(
    ("requested", "message"),
    [
        ([], "no splits given"),
        (["dev3"], "unknown split 'dev3': did you mean 'dev"),
        (["banana"], "known are dev1, dev2"),
        (["dev2:fr"], "name two different languages"),
        (["dev2:fr+fr"], "name two different languages"),
        (["dev2:fr+it+es"], "name two different languages"),
        (["dev2:fr+xx"], "unknown language 'xx'"),
        (["dev2:fr+ko"], "no labelled rows in ko"),
    ],
)
def test_what_is_no_split_is_explained(requested: list[str], message: str, corpus: Corpus) -> None:
    with pytest.raises(UsageError, match=message.replace("+", r"\+")):
        select_splits(requested, corpus, 0)


def test_the_split_seed_decides_and_nothing_else(corpus: Corpus) -> None:
    for name in ("dev1", "dev2"):
        assert np.array_equal(make_split(corpus, name, 3).dev, make_split(corpus, name, 3).dev)
        assert not np.array_equal(make_split(corpus, name, 3).dev, make_split(corpus, name, 4).dev)
    assert len({make_split(corpus, "dev2", seed).unseen for seed in range(20)}) > 5


def test_dev2_of_three_languages_is_refused_with_the_way_out(
    corpus_folder: Callable[..., Path],
) -> None:
    small = load_corpus(str(corpus_folder(some_rows(20, ("en", "fr", "es")))))
    with pytest.raises(UsageError, match="use --splits dev1"):
        select_splits(["dev2"], small, 0)
    assert select_splits(["dev1"], small, 0) == ["dev1"]


def test_a_text_that_is_also_in_a_held_out_language_does_not_train(
    corpus_folder: Callable[..., Path],
) -> None:
    rows = [*some_rows(20, SIX), ("hahaha", 2.0, "fr"), *[("hahaha", 2.0, "en")] * 5]
    split = make_split(load_corpus(str(corpus_folder(rows))), "dev2:fr+it", 0)
    assert set(range(120, 126)) <= set(split.dev.tolist())


def test_a_split_with_nothing_left_to_train_on_is_refused(
    corpus_folder: Callable[..., Path],
) -> None:
    rows: list[Row] = [
        ("the same", 1.0 + i % 3, language)
        for i in range(10)
        for language in ("en", "fr", "es", "zh")
    ]
    with pytest.raises(UsageError, match="too few"):
        select_splits(["dev1"], load_corpus(str(corpus_folder(rows))), 0)


@settings(max_examples=40)
@given(
    st.lists(st.tuples(st.integers(0, 60), st.sampled_from(SIX)), min_size=150, max_size=250),
    st.integers(0, 1000),
)
def test_equal_texts_stay_on_one_side_whatever_repeats(
    rows: list[tuple[int, str]], seed: int
) -> None:
    some = [(f"text {number}", 1.0 + i % 4, language) for i, (number, language) in enumerate(rows)]
    with tempfile.TemporaryDirectory() as folder:
        corpus = load_corpus(str(write_corpus(Path(folder), [*some, *some_rows(5, SIX)])))
    for name in ("dev1", "dev2"):
        try:
            split = make_split(corpus, name, seed)
        except UsageError:  # so many rows repeat one text that a side is too small
            continue
        text = corpus.train["text"].to_numpy()
        assert not set(text[split.train]) & set(text[split.dev])
        assert len(split.train) + len(split.dev) == len(corpus.train)


def test_mints_splits_have_the_papers_sizes(mint: Path) -> None:
    corpus = load_corpus(str(mint))
    dev1 = make_split(corpus, "dev1", 0)
    assert abs(len(dev1.dev) - 9491 / 5) < 5
    dev2 = make_split(corpus, "dev2", 0)
    held_out = corpus.train["language"].isin(dev2.unseen).sum()
    assert abs(len(dev2.dev) - (held_out + (9491 - held_out) / 5)) < 5


@pytest.mark.parametrize(
    "twin",
    [
        lambda text: unicodedata.normalize("NFD", text),
        lambda text: unicodedata.normalize("NFKC", text),
        lambda text: text.replace(" ", "\u00a0"),
        lambda text: text.replace(" ", "  "),
        lambda text: f"{text}\u200b",
        lambda text: f"\u2060{text}",
    ],
    ids=["NFD", "NFKC", "no-break space", "two spaces", "zero-width space", "word joiner"],
)
def test_texts_that_a_tokenizer_reads_alike_stay_on_one_side(
    tmp_path: Path, twin: Callable[[str], str]
) -> None:
    texts = [f"caf\u00e9 \ufb01n {i}" for i in range(60)]
    rows = [
        (text, 1.0 + i % 5, ("en", "fr", "it", "es")[i % 4])
        for side in (texts, [twin(text) for text in texts])
        for i, text in enumerate(side)
    ]
    corpus = load_corpus(str(write_corpus(tmp_path, rows)))
    assert repeated_texts(corpus.train) == 60
    for name in ("dev1", "dev2"):
        dev = set(make_split(corpus, name, 0).dev.tolist())
        assert {row + 60 for row in dev if row < 60} == {row for row in dev if row >= 60}


@pytest.mark.parametrize(
    ("equal_texts", "together"),
    [("exact", 0), ("normalised", 30), ("ignoring_case", 60)],
)
def test_a_setting_says_which_texts_are_equal(
    tmp_path: Path, equal_texts: EqualTexts, together: int
) -> None:
    """Twins that differ in Unicode's form, and others that differ in case."""
    texts = [f"caf\u00e9 {i}" for i in range(60)]
    twins = [unicodedata.normalize("NFD", text) for text in texts[:30]]
    twins += [text.upper() for text in texts[30:]]
    rows = [
        (text, 1.0 + i % 5, ("en", "fr")[i % 2])
        for side in (texts, twins)
        for i, text in enumerate(side)
    ]
    corpus = load_corpus(str(write_corpus(tmp_path, rows)))
    assert repeated_texts(corpus.train, equal_texts) == together
    dev = set(make_split(corpus, "dev1", 0, equal_texts).dev.tolist())
    apart = [row for row in range(60) if (row in dev) != (row + 60 in dev)]
    assert all(row >= together for row in apart)
    assert (apart == []) == (together == 60)


def test_texts_that_differ_in_a_letter_or_in_case_are_not_equal() -> None:
    assert len({text_key(text) for text in ("cafe", "caf\u00e9", "Cafe", "\u200b", "\u2060")}) == 5


def described(folder: Path, dev: int = 0, groups: tuple[str, ...] = SIX) -> Corpus:
    """A corpus of domains with `dev` development rows of its own, the first of a training text."""
    lines = [f'{g.split(",")[0]} words {i},{i % 4},"{g}"' for i in range(30) for g in groups]
    (folder / "a.csv").write_text("text,label,g\n" + "\n".join(lines))
    rows = [lines[0], *(f"new words {i},{i % 4},new" for i in range(dev - 1))]
    (folder / "b.csv").write_text("text,label,g\n" + "\n".join(rows))
    given_dev = 'dev = "b.csv"\n' if dev else ""
    (folder / "corpus.toml").write_text(
        f'[files]\ntrain = "a.csv"\n{given_dev}[columns]\ngroup = "g"\n[label]\nlowest = 0\n'
        'highest = 3\n[group]\nkind = "domain"'
    )
    return load_corpus(str(folder))


def test_given_rows_are_developed_on_and_their_texts_do_not_train(tmp_path: Path) -> None:
    corpus = described(tmp_path, dev=20)
    split = make_split(corpus, "given", 0)
    assert split.dev.tolist() == list(range(180, 200))
    assert split.train.tolist() == list(range(1, 180))
    assert split.unseen == ("new",)
    for name in ("dev1", "dev2", "hold:2", "kfold:3:1", "leave-one-out:fr"):
        other = make_split(corpus, name, 0)
        assert max(*other.train, *other.dev) < 180


def test_folds_are_disjoint_and_have_all_groups_alike(tmp_path: Path) -> None:
    corpus = described(tmp_path)
    names = select_splits(["kfold:5"], corpus, 0)
    assert names == [f"kfold:5:{i}" for i in range(1, 6)]
    folds = [make_split(corpus, name, 0) for name in names]
    assert sorted(row for fold in folds for row in fold.dev) == list(range(180))
    for fold in folds:
        assert corpus.train["language"].iloc[fold.dev].value_counts().tolist() == [6] * 6
    assert not np.array_equal(folds[0].dev, make_split(corpus, names[0], 1).dev)


def test_each_group_is_left_out_once_and_all_others_train(tmp_path: Path) -> None:
    corpus = described(tmp_path)
    names = select_splits(["leave-one-out"], corpus, 0)
    assert {make_split(corpus, name, 0).unseen for name in names} == {(g,) for g in SIX}
    split = make_split(corpus, "leave-one-out:fr", 0)
    assert (len(split.train), len(split.dev)) == (150, 30)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("dev1@3", "dev1"),
        ("dev2:fr+it", "dev2"),
        ("hold:3@1", "hold:3"),
        ("leave-one-out:fr", "leave-one-out"),
        ("kfold:5:1", "kfold:5:1"),
        ("given", "given"),
    ],
)
def test_splits_of_one_kind_differ_in_a_draw_or_in_the_groups_held_out(
    name: str, kind: str
) -> None:
    assert draw_kind(name) == kind


def test_any_number_of_groups_is_held_out(tmp_path: Path) -> None:
    corpus = described(tmp_path, groups=("News, blogs", "A+B", "fiction", "letters", "prose"))
    assert len(make_split(corpus, "hold:3", 0).unseen) == 3
    (name,) = select_splits(["hold:news-blogs+a-b"], corpus, 0)
    assert make_split(corpus, name, 0).unseen == ("A+B", "News, blogs")
    assert select_splits([name], corpus, 0) == [name]
    for number in (0, 4, 9):
        with pytest.raises(UsageError, match="use --splits dev1"):
            select_splits([f"hold:{number}"], corpus, 0)


@pytest.mark.parametrize(
    ("dev", "groups", "expected"),
    [
        (0, SIX, ["dev1", "dev2"]),
        (9, SIX, ["given", "dev2"]),
        (0, ("a", "b", "c"), ["dev1"]),
        (9, ("a",), ["given"]),
    ],
)
def test_the_default_suits_the_corpus(
    dev: int, groups: tuple[str, ...], expected: list[str], tmp_path: Path
) -> None:
    corpus = described(tmp_path, dev, groups)
    assert select_splits(["auto"], corpus, 0) == expected


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("given", "no development rows of its own"),
        ("kfold:1", "give 2 to 100 folds"),
        ("kfold:3:4", "numbered from 1 to 3"),
        ("hold", "say how many groups"),
        ("leave-one-out:xx", "no labelled rows in xx"),
        ("dev1:fr", "unknown split"),
    ],
)
def test_what_a_split_can_not_do_is_explained(name: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=message):
        select_splits([name], described(tmp_path), 0)


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.lists(
        st.tuples(st.integers(0, 40), st.sampled_from(["a", "b", "c", "d", "e"])),
        min_size=150,
        max_size=250,
    ),
    st.sampled_from(["dev1", "hold:2", "dev2", "leave-one-out", "kfold:4"]),
    st.integers(0, 5),
)
def test_no_split_leaks_whatever_repeats(
    tmp_path: Path, rows: list[tuple[int, str]], name: str, seed: int
) -> None:
    lines = [f"words {text},{text % 4},{group}" for text, group in rows]
    (tmp_path / "a.csv").write_text("text,label,g\n" + "\n".join(lines))
    (tmp_path / "corpus.toml").write_text(
        '[files]\ntrain = "a.csv"\n[columns]\ngroup = "g"\n[label]\nlowest = 0\n'
        'highest = 3\n[group]\nkind = "domain"'
    )
    try:
        corpus = load_corpus(str(tmp_path))
        splits = [make_split(corpus, n, seed) for n in select_splits([name], corpus, seed)]
    except UsageError:
        return  # too few rows or groups
    frame = corpus.train
    for split in splits:
        train, dev = frame.iloc[split.train], frame.iloc[split.dev]
        assert not set(train["text"]) & set(dev["text"])
        assert not set(train["language"]) & set(split.unseen)
        assert len(np.intersect1d(split.train, split.dev)) == 0
