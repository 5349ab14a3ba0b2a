"""Programs are started and known here. This part needs no loop; `hub` tells loops of programs."""
