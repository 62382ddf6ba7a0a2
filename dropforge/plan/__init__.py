"""``dropforge plan FILE``: what a manifest will need, before anything is started. The counting is planning's; here lie its eyes and its words."""
