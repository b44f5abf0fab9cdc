"""An encoder and a data set in, a frozen result out."""
