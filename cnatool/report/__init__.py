"""Pictures: charts of what scores, layers and studies say. Nothing is measured here."""
