"""check_demo.py passes what a good demo shows and fails each thing that is missing."""

import pytest

import check_demo

ANSWERS = (
    "The license lets anybody copy the software with its source.\nThe capital of France is Paris.\n"
)
PROGRESS = "summary: 4 sections, coverage 35149 of 35149 bytes\n"


def test_a_good_demo_passes():
    assert list(check_demo.faults_of(ANSWERS, PROGRESS)) == []


@pytest.mark.parametrize(
    "answers, progress",
    [
        (ANSWERS, PROGRESS.replace("35149 of", "35000 of")),
        (ANSWERS, PROGRESS.replace("4 sections", "1 sections")),
        (ANSWERS.replace("license", "text"), PROGRESS),
        (ANSWERS.replace("Paris", "Rome"), PROGRESS),
        (ANSWERS + "and so on and so forth " * 4, PROGRESS),
        ("", ""),
    ],
)
def test_each_thing_that_is_missing_is_a_fault(answers, progress):
    assert len(list(check_demo.faults_of(answers, progress))) >= 1
