"""Open the built wheel, install it alone into a new environment, and use it from outside."""

import os
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
SOURCE = HERE.parents[1] / "lock_tokens"
REQUIREMENTS = {"Django>=5.2", "django-model-utils>=5.0"}


def main(work: Path) -> None:
    [wheel] = (work / "dist").glob("*.whl")
    check_contents(wheel)
    python = new_environment(work / "venv")
    run(python, "-m", "pip", "install", "--quiet", str(wheel), cwd=work)
    # Isolated: neither this directory nor PYTHONPATH may lend it the sources.
    run(python, "-I", "-X", "dev", "-W", "error", str(HERE / "use.py"), cwd=work)
    print(f"{wheel.name}: complete, installed alone, works")


def check_contents(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if not name.endswith("/")}
        [metadata_name] = [name for name in names if name.endswith(".dist-info/METADATA")]
        metadata = archive.read(metadata_name).decode().splitlines()
    info = metadata_name.removesuffix("METADATA")
    packaged = {name for name in names if not name.startswith(info)}
    sources = {
        str(Path("lock_tokens", path.relative_to(SOURCE)))
        for path in SOURCE.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    expect("files in the wheel", packaged, sources)
    required = {
        line.split(": ")[1]
        for line in metadata
        if line.startswith("Requires-Dist: ") and "extra ==" not in line
    }
    expect("requirements", required, REQUIREMENTS)
    expect("license", {info + "licenses/LICENSE"} & names, {info + "licenses/LICENSE"})
    translations = {name.removesuffix(".po") for name in packaged if name.endswith(".po")}
    compiled = {name.removesuffix(".mo") for name in packaged if name.endswith(".mo")}
    expect("compiled translations", compiled, translations)


def expect(what: str, found: set[str], wanted: set[str]) -> None:
    if found != wanted:
        sys.exit(f"{what}: missing {sorted(wanted - found)}, too many {sorted(found - wanted)}")


def new_environment(path: Path) -> Path:
    venv.create(path, clear=True, with_pip=True)
    return path / ("Scripts" if os.name == "nt" else "bin") / "python"


def run(*command: Path | str, cwd: Path) -> None:
    subprocess.run(command, cwd=cwd, check=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
