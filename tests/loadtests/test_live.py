"""What is told while a run is on, where no line can be renewed."""

from support.load_results import result_of

from loadtests.live import EVERY_S, LiveLine


def test_a_log_is_told_once_in_a_while_and_of_every_stage(capsys):
    result, line = result_of([0.1] * 100, errors=3), LiveLine(stages=2)
    for second in range(round(2.5 * EVERY_S)):
        line.show(result.stage, result.record, float(second))
    line.tell(result, ["p99<1ms: 100.0 ms"])
    line.show(result.stage, result.record, 1.0)
    line.close()
    told = capsys.readouterr().err.splitlines()
    assert [text.split()[0] for text in told] == ["1/2", "1/2", "1/2", "3", "missed:"]
    assert "103 requests   10.0 slices/s   p50 100 ms   p99 100 ms   3 errors" in told[2]
    assert told[3].strip() == "3 of 103 requests failed: 3 ServerUnavailableError"
