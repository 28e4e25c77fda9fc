"""From a recording to stems and a master: the stages, their streaming, the ledger and the mastering."""
