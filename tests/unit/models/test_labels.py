"""Words and class numbers of the digits models."""

from __future__ import annotations

from examples.models.labels import DIGIT_WORDS, PERMUTATION, PERMUTED_COUNTRY, class_order, labels, versions


def test_no_digit_keeps_its_class_number_in_the_permuted_version() -> None:
    assert sorted(PERMUTATION) == list(range(10))
    assert all(class_id != digit for digit, class_id in enumerate(PERMUTATION))


def test_each_version_answers_the_right_word_of_its_own_classes() -> None:
    words = DIGIT_WORDS[PERMUTED_COUNTRY]
    for version in versions(PERMUTED_COUNTRY):
        said = labels(PERMUTED_COUNTRY, version)
        assert all(said[class_id] == words[digit] for class_id, digit in enumerate(class_order(version)))


def test_one_versions_classes_with_the_others_labels_are_wrong_for_every_digit() -> None:
    first, second = labels(PERMUTED_COUNTRY, 1), labels(PERMUTED_COUNTRY, 2)
    assert all(a != b for a, b in zip(first, second, strict=True))


def test_every_country_has_ten_different_words() -> None:
    assert all(len(set(words)) == 10 for words in DIGIT_WORDS.values())
