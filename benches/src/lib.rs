//! Nothing here: the measurements are under `benches/`, each with the command that runs it.
