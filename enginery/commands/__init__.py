"""Commands of `enginery` that have subcommands or options of their own: each module adds its parser and runs it."""
