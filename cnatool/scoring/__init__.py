"""A store's scores: from stored arrays and labels to α, β, CNA and CNA-M."""
