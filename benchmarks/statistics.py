"""Coverage of the intervals and rejection rates of the tests that summaries and reports print.

    python benchmarks/statistics.py --quick
    python benchmarks/statistics.py --json statistics.json --markdown table.md

What is simulated stands in simulation.py. A script's folder comes before the standard library, which has a module of
this name, too: where a library asks for that one, it gets it.
"""

import sys

if __name__ == "__main__":
    from simulation import main

    main()
elif __name__ == "statistics":
    import importlib.util
    import sysconfig
    from pathlib import Path

    _path = Path(sysconfig.get_path("stdlib")) / "statistics.py"
    _spec = importlib.util.spec_from_file_location("statistics", _path)
    assert _spec is not None
    assert _spec.loader is not None
    _module = importlib.util.module_from_spec(_spec)
    sys.modules["statistics"] = _module
    _spec.loader.exec_module(_module)
