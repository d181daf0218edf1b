"""Networks of many libraries, dumped one by one and recomputed tensor by tensor."""
