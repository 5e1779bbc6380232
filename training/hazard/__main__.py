from training.hazard.cli import main

raise SystemExit(main())
