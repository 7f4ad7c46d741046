"""Settings from files: which count, what wins, and errors that name the line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from paddock.cli.commands.config import without_password
from paddock.cli.main import main
from paddock.client.connection import connect
from paddock.model.errors import InvalidInput
from paddock.settings import SETTINGS, Settings
from paddock.settings_file import SYSTEM_FILE, find_values, load_settings, searched_files


def write(path: Path, text: str) -> dict[str, str]:
    """An environment whose only file has this text."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return {"PADDOCK_CONFIG": str(path)}


@pytest.fixture
def machine_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "etc" / "paddock" / "config.toml"
    monkeypatch.setattr("paddock.settings_file.SYSTEM_FILE", path)
    return path


def test_no_file_changes_nothing(tmp_path: Path) -> None:
    assert load_settings({"PADDOCK_CONFIG": "/dev/null"}) == Settings()
    assert load_settings(write(tmp_path / "empty.toml", "# nothing\n")) == Settings()


def test_every_setting_can_stand_in_a_file(tmp_path: Path) -> None:
    values = {
        "home": "/data/home",
        "storage": "s3://bucket/a",
        "url": "http://localhost:8000",
        "catalog": "postgresql://db/paddock",
        "project": "vision",
        "workers": 3,
        "sandbox": "directory",
        "grace_seconds": 0.5,
        "debug": True,
        "memory": "64Gi",
        "gpus": ["0", 1],
    }
    for setting in SETTINGS:
        if setting.field not in values:
            continue
        line = f"{setting.field} = {json.dumps(values[setting.field])}\n"
        text = {"debug": "1", "gpus": "0,1"}.get(setting.field, str(values[setting.field]))
        environment = write(tmp_path / "one.toml", line)
        assert load_settings(environment) == Settings.from_environment({setting.variable: text})


def test_the_environment_wins_then_the_user_then_the_machine(tmp_path: Path, machine_file: Path) -> None:
    write(machine_file, 'workers = 1\nproject = "machine"\ngrace_seconds = 1\n')
    write(tmp_path / "paddock" / "config.toml", 'project = "user"\ngrace_seconds = 2\n')
    environment = {"XDG_CONFIG_HOME": str(tmp_path), "PADDOCK_GRACE_SECONDS": "3", "PADDOCK_PROJECT": ""}
    assert load_settings(environment) == Settings(workers=1, project="user", grace_seconds=3.0)
    origins = {field: value.origin for field, value in find_values(environment).items()}
    assert origins == {
        "grace_seconds": "environment",
        "project": str(tmp_path / "paddock" / "config.toml"),
        "workers": str(machine_file),
    }


def test_where_files_are_looked_for() -> None:
    below_home = Path("/home/a/.config/paddock/config.toml")
    assert searched_files({"HOME": "/home/a"}) == [below_home, SYSTEM_FILE]
    assert searched_files({"HOME": "/home/a", "XDG_CONFIG_HOME": "relative"}) == [below_home, SYSTEM_FILE]
    assert searched_files({"XDG_CONFIG_HOME": "/x"}) == [Path("/x/paddock/config.toml"), SYSTEM_FILE]
    assert searched_files({}) == [SYSTEM_FILE]


@pytest.mark.parametrize(
    ("variable", "value"),
    [("PADDOCK_HOME", "/tmp/home"), ("PADDOCK_URL", "http://a:1"), ("PADDOCK_CATALOG", "postgresql://a/b")],
)
def test_the_place_of_the_data_is_not_mixed_from_two_sources(tmp_path: Path, variable: str, value: str) -> None:
    text = 'catalog = "postgresql://file/db"\nstorage = "s3://file"\nurl = "http://file:1"\nworkers = 2\n'
    environment = write(tmp_path / "all.toml", text)
    assert load_settings(environment | {variable: value}) == Settings.from_environment(
        {variable: value, "PADDOCK_WORKERS": "2"}
    )


def test_a_list_may_be_empty(tmp_path: Path, machine_file: Path) -> None:
    write(machine_file, 'image_pull_secrets = ["one", "two"]\ngpus = [0]\n')
    environment = {"XDG_CONFIG_HOME": str(tmp_path)}
    found = load_settings(environment)
    assert (found.image_pull_secrets, found.gpus) == (("one", "two"), ("0",))
    write(tmp_path / "paddock" / "config.toml", "image_pull_secrets = []\ngpus = []\n")
    found = load_settings(environment)
    assert (found.image_pull_secrets, found.gpus) == ((), ())


def test_a_storage_of_the_environment_goes_with_the_catalog_of_a_file(tmp_path: Path) -> None:
    environment = write(tmp_path / "c.toml", 'catalog = "postgresql://file/db"\nstorage = "s3://file"\n')
    found = load_settings(environment | {"PADDOCK_STORAGE": "s3://other"})
    assert (found.catalog, found.storage) == ("postgresql://file/db", "s3://other")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("workers = 2\nworkres = 3", "line 2: 'workres' is no setting; did you mean workers?"),
        ("PADDOCK_WORKERS = 3", "line 1: 'PADDOCK_WORKERS' is no setting; did you mean workers?"),
        ("zzz = 3", "there are home, storage"),
        ("\n[server]\nurl = 'http://a'", "line 2: 'server' is no setting"),
        ("workers = 2\n\nworkers = 3", "Cannot overwrite a value"),
        ("workers = 'many'", "line 1: workers is 'many'; set it to a whole number of processes, at least 1, or take"),
        ("workers = true", "workers is True; set it to a number"),
        ("workers = [1]", "workers is [1]; set it to a number"),
        ("debug = 3", "debug is 3; set it to true or false"),
        ("url = ''", "url is ''; set it to a string in quotes"),
        ("url = http://a", "not TOML"),
        ("home = 'data'", "home is 'data', which depends on the current folder; write a whole path"),
        ("sandbox = 'docker'", "set it to one of auto, namespaces, directory"),
        ("gpus = [1, 1]", "gpus is '1,1'"),
    ],
)
def test_a_wrong_file_names_file_line_and_next_step(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "wrong.toml"
    with pytest.raises(InvalidInput) as caught:
        load_settings(write(path, text))
    assert str(path) in caught.value.message
    assert said in caught.value.message


def test_a_file_that_is_missing_unreadable_or_not_text(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"names .*nowhere.toml, which is not there"):
        load_settings({"PADDOCK_CONFIG": str(tmp_path / "nowhere.toml")})
    with pytest.raises(InvalidInput, match="can't be read: Is a directory"):
        load_settings({"PADDOCK_CONFIG": str(tmp_path)})
    (tmp_path / "latin.toml").write_bytes(b'project = "\xe9"')
    with pytest.raises(InvalidInput, match="is not UTF-8"):
        load_settings({"PADDOCK_CONFIG": str(tmp_path / "latin.toml")})


def test_connect_takes_the_file_of_its_environment(tmp_path: Path) -> None:
    with connect(environment=write(tmp_path / "a.toml", f'home = "{tmp_path}/made"')) as paddock:
        paddock.repos.create("data")
    assert (tmp_path / "made" / "home.json").exists()


def test_config_shows_values_origins_and_no_password(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = 'catalog = "postgresql://me:hidden@db/x"\nworkers = 2\n'
    for name, value in write(tmp_path / "c.toml", text).items():
        monkeypatch.setenv(name, value)
    for setting in SETTINGS:
        monkeypatch.delenv(setting.variable, raising=False)
    monkeypatch.setenv("PADDOCK_PROJECT", "vision")
    assert main(["config", "--json"]) == 0
    printed = capsys.readouterr().out
    assert "hidden" not in printed
    document = json.loads(printed)
    assert document["files"] == [str(tmp_path / "c.toml")]
    shown = {item["setting"]: (item["value"], item["source"]) for item in document["settings"]}
    assert shown["catalog"] == ("postgresql://me:***@db/x", str(tmp_path / "c.toml"))
    assert shown["project"] == ("vision", "environment")
    assert shown["sandbox"] == (None, "default")
    assert main(["config", "--home", str(tmp_path / "h"), "--project", "other"]) == 0
    lines = {line.split()[0]: line.split()[1:] for line in capsys.readouterr().out.splitlines()}
    assert lines["home"] == [str(tmp_path / "h"), "option"]
    assert lines["project"] == ["other", "option"]
    assert lines["catalog"][-1] == "default"


def test_debug_of_a_file_shows_tracebacks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("PADDOCK_DEBUG", raising=False)
    monkeypatch.setenv("PADDOCK_CONFIG", write(tmp_path / "d.toml", "debug = true")["PADDOCK_CONFIG"])
    assert main(["--home", str(tmp_path / "h"), "repo", "inspect", "none"]) != 0
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("postgresql://u:p@h/db", "postgresql://u:***@h/db"),
        ("postgresql://u:p@s/s@h/db", "postgresql://u:***@h/db"),
        ("postgresql://u@h/db?sslpassword=x&password=y&a=1", "postgresql://u@h/db?sslpassword=***&password=***&a=1"),
        ("http://host:80/x", "http://host:80/x"),
        ("s3://bucket/prefix", "s3://bucket/prefix"),
    ],
)
def test_passwords_are_masked(text: str, shown: str) -> None:
    assert without_password(text) == shown
