"""What the template promises, held on its translated form: that is what AWS gets, roles and rules of SAM's making included."""
