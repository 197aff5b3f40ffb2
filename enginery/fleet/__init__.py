"""The fleet: what each machine is, what it has to do, and which machine is silent."""
