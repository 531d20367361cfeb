"""Every public function, method and command with odd arguments: pools of values, doors, laws, remedies."""
