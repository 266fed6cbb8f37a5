"""What `helm test` runs in its pod, against real servers."""


def test_the_shipped_models_pass(smoke_test, shipped_server, capsys):
    assert smoke_test(shipped_server.url, 12, 30) is None
    assert "of 12 verdicts are right; Dice 0." in capsys.readouterr().out


def test_models_that_find_nothing_do_not(smoke_test, tiny_server):
    assert smoke_test(tiny_server.url, 2, 30) is not None


def test_the_pod_runs_it(render, chart_folder):
    (pod,) = [each for each in render("gpu") if each["kind"] == "Pod"]
    (container,) = pod["spec"]["containers"]

    script, *arguments = container["args"]
    assert container["command"] == ["python", "-c"]
    assert script.strip() == (chart_folder / "files" / "smoke_test.py").read_text().strip()
    assert arguments == ["gliogate:8001", "24", "180"]
    assert pod["metadata"]["annotations"]["helm.sh/hook"] == "test"
    # The network lets it in.
    assert pod["metadata"]["labels"]["gliogate-client"] == "true"


def test_the_pod_goes_where_it_may(render):
    taint = [{"key": "dedicated", "operator": "Exists"}]
    placed = {"nodeSelector": {"pool": "cpu"}, "tolerations": taint, "priorityClassName": "low"}
    (pod,) = [each for each in render("gpu", smokeTest=placed) if each["kind"] == "Pod"]

    assert placed.items() <= pod["spec"].items()


def test_with_tls_it_shows_a_certificate(render):
    (pod,) = [each["spec"] for each in render("mtls") if each["kind"] == "Pod"]

    (container,) = pod["containers"]
    assert container["args"][-1] == container["volumeMounts"][0]["mountPath"] == "/etc/gliogate/tls"
    assert pod["volumes"][0]["secret"]["secretName"] == "gliogate-client"
    assert not [each for each in render("mtls", smokeTest__tlsSecret="") if each["kind"] == "Pod"]
