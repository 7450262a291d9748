"""A signal before the first step ends a training at once, a later one in good order, a second one at once."""

import os
import signal

import pytest

from manylabel.training.interrupt import stop_on_interrupt
from manylabel.training.observers import Step

STEP = Step(1, 10, 0, 0.5, 1.0, 1e-4, 8, 80, 0.1)
ENDING = ("SIGINT", "SIGTERM", "SIGHUP")


@pytest.fixture(autouse=True)
def handlers():
    """As in a process that was started in a terminal; put back afterwards."""
    previous = {name: signal.signal(getattr(signal, name), signal.SIG_DFL) for name in ENDING}
    yield
    for name, handler in previous.items():
        signal.signal(getattr(signal, name), handler)


def send(name):
    signal.raise_signal(getattr(signal, name))


@pytest.mark.parametrize("name", ENDING)
def test_before_the_first_step_it_ends_at_once(name, capfd):
    with stop_on_interrupt() as should_stop:
        should_stop.stage("Reading")
        with pytest.raises(KeyboardInterrupt):
            send(name)
        assert not should_stop()
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("name", ENDING)
def test_after_the_first_step_it_asks_and_the_second_ends(name, capfd):
    with stop_on_interrupt() as should_stop:
        should_stop.step(STEP)
        assert not should_stop()
        send(name)
        assert should_stop()
        with pytest.raises(KeyboardInterrupt):
            send("SIGINT")
    assert capfd.readouterr().err.count("saving its state; once more") == 1


def test_a_terminal_that_hung_up_does_not_hinder_the_saving(monkeypatch):
    def gone(descriptor, text):
        raise OSError(5, "Input/output error")

    with stop_on_interrupt() as should_stop:
        should_stop.step(STEP)
        monkeypatch.setattr(os, "write", gone)
        send("SIGHUP")
        assert should_stop()


def test_under_nohup_a_hangup_stays_ignored():
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with stop_on_interrupt() as should_stop:
        should_stop.step(STEP)
        send("SIGHUP")
        assert not should_stop()


def test_the_handlers_of_before_come_back():
    with stop_on_interrupt():
        pass
    assert [signal.getsignal(getattr(signal, name)) for name in ENDING] == [signal.SIG_DFL] * 3
