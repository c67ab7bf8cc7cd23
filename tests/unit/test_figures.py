"""The table of faults that lab tests print: what was tried and what survived are two figures, not one."""

import pytest

from lab.figures import Faults


def test_a_fault_whose_block_fails_is_tried_and_not_survived() -> None:
    faults = Faults()
    with faults.tried("libvirtd killed"):
        pass
    with pytest.raises(AssertionError, match="stranded"), faults.tried("libvirtd killed"):
        raise AssertionError("stranded")
    assert faults.table() == ["    2     1  libvirtd killed"]


def test_several_faults_in_one_block_are_survived_together_or_not_at_all() -> None:
    faults = Faults()
    with faults.tried("libvirtd restarted", times=20):
        pass
    with pytest.raises(AssertionError, match="stuck"), faults.tried("guest rebooted", times=3):
        raise AssertionError("stuck")
    assert faults.table() == ["   20    20  libvirtd restarted", "    3     0  guest rebooted"]


def test_faults_that_were_found_out_one_by_one_are_added_up() -> None:
    faults = Faults()
    faults.count("SIGKILL", tried=12, survived=11)
    faults.count("SIGKILL", tried=3, survived=3)
    assert faults.table() == ["   15    14  SIGKILL"]
